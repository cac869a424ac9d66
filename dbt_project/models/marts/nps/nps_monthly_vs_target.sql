{{ config(dist='all', sort='month') }}

with

targets as (

    select * from {{ ref('stg_google_sheets__nps_targets') }}

),

months as (

    select
        cast({{ dbt.date_trunc('month', 'response_date') }} as date) as response_month,
        segment,
        sum(responses) as responses,
        {{ net_promoter_score('sum(promoters)', 'sum(detractors)', 'sum(responses)') }} as nps
    from {{ ref('fct_nps_responses_daily') }}
    where segment <> 'none'
    group by response_month, segment

),

-- A full join, to keep months without a target and targets without responses.
months_and_targets as (

    select
        -- The column's name in the sheet; no warehouse here reserves the word.
        coalesce(months.response_month, targets.month) as month, -- noqa: references.keywords
        coalesce(months.segment, targets.segment) as segment,
        coalesce(months.responses, 0) as responses,
        months.nps,
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
