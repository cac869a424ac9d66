{{ config(dist='all', sort='month') }}

with

days_and_segments as (

    select * from {{ ref('int_nps_responses_aggregated_to_days') }}

),

targets as (

    select * from {{ ref('stg_google_sheets__nps_targets') }}

),

months as (

    select
        cast({{ dbt.date_trunc('month', 'response_date') }} as date) as response_month,
        segment,
        sum(responses) as responses,
        sum(promoters) as promoters,
        sum(detractors) as detractors
    from days_and_segments
    where
        segment <> 'none'
        and responses > 0
    group by response_month, segment

),

-- From both sides: a month without a target and a target without responses both stay.
months_and_targets as (

    select
        -- The sheet's own word, which no warehouse here reserves.
        coalesce(months.response_month, targets.month) as month, -- noqa: references.keywords
        coalesce(months.segment, targets.segment) as segment,
        coalesce(months.responses, 0) as responses,
        {{
            net_promoter_score('months.promoters', 'months.detractors', 'months.responses')
        }} as nps,
        targets.target_nps,
        targets.owner
    from months
    full outer join targets
        on
            months.response_month = targets.month
            and months.segment = targets.segment

),

final as (

    select
        month,
        segment,
        cast(responses as {{ dbt.type_int() }}) as responses,
        nps,
        target_nps,
        cast(nps - target_nps as numeric(5, 2)) as difference_to_target,
        nps >= target_nps as is_target_met,
        owner
    from months_and_targets

)

select * from final
