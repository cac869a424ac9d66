{{ config(dist='all', sort='response_date') }}

with

responses as (

    select * from {{ ref('fct_nps_responses') }}

),

days as (

    select
        response_date,
        count(*) as responses,
        sum(case when category = 'promoter' then 1 else 0 end) as promoters,
        sum(case when category = 'passive' then 1 else 0 end) as passives,
        sum(case when category = 'detractor' then 1 else 0 end) as detractors
    from responses
    group by response_date

),

-- A self join of the days, as Redshift has no window frame by interval.
windows_28d as (

    select
        days.response_date,
        sum(recent_days.responses) as responses,
        sum(recent_days.promoters) as promoters,
        sum(recent_days.detractors) as detractors
    from days
    inner join days as recent_days
        on
            days.response_date >= recent_days.response_date
            and cast({{ dbt.dateadd('day', -28, 'days.response_date') }} as date)
            < recent_days.response_date
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
