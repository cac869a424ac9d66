{{ config(dist='all', sort='response_date') }}

with

days_and_segments as (

    select * from {{ ref('int_nps_responses_aggregated_to_days') }}

),

days as (

    select
        response_date,
        sum(responses) as responses,
        sum(promoters) as promoters,
        sum(passives) as passives,
        sum(detractors) as detractors
    from days_and_segments
    where responses > 0
    group by response_date

),

offsets as (

    {{ whole_numbers(28) }}

),

-- Each day counts in 28 windows. Redshift has no window frame by interval, and joins by a range of
-- dates every day with every other.
windows_28d as (

    select
        cast({{ dbt.dateadd('day', 'offsets.whole_number', 'days.response_date') }} as date)
            as response_date,
        sum(days.responses) as responses,
        sum(days.promoters) as promoters,
        sum(days.detractors) as detractors
    from days
    cross join offsets
    group by cast({{ dbt.dateadd('day', 'offsets.whole_number', 'days.response_date') }} as date)

),

final as (

    select
        days.response_date,
        cast(days.responses as {{ dbt.type_int() }}) as responses,
        cast(days.promoters as {{ dbt.type_int() }}) as promoters,
        cast(days.passives as {{ dbt.type_int() }}) as passives,
        cast(days.detractors as {{ dbt.type_int() }}) as detractors,
        {{ net_promoter_score('days.promoters', 'days.detractors', 'days.responses') }} as nps,
        cast(windows_28d.responses as {{ dbt.type_int() }}) as responses_28d,
        {{
            net_promoter_score(
                'windows_28d.promoters', 'windows_28d.detractors', 'windows_28d.responses'
            )
        }} as nps_28d
    from days
    inner join windows_28d
        on days.response_date = windows_28d.response_date

)

select * from final
