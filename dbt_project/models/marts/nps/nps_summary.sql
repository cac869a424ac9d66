{{ config(dist='all', sort='response_date') }}

with

days as (

    select
        response_date,
        sum(responses) as responses,
        sum(promoters) as promoters,
        sum(passives) as passives,
        sum(detractors) as detractors
    from {{ ref('fct_nps_responses_daily') }}
    group by response_date

),

windows_28d as (

    select
        days.response_date,
        sum(counted.responses) as responses,
        sum(counted.promoters) as promoters,
        sum(counted.detractors) as detractors
    from days
    inner join days as counted
        on
            days.response_date >= counted.response_date
            and days.response_date
            <= cast({{ dbt.dateadd('day', 27, 'counted.response_date') }} as date)
    group by days.response_date

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
