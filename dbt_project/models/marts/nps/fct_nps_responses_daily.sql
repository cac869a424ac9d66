{{ config(dist='all', sort='response_date') }}

with

responses as (

    select * from {{ ref('fct_nps_responses') }}

),

final as (

    select
        response_date,
        segment,
        count(*) as responses,
        count(case when category = 'promoter' then 1 end) as promoters,
        count(case when category = 'passive' then 1 end) as passives,
        count(case when category = 'detractor' then 1 end) as detractors
    from responses
    group by response_date, segment

)

select * from final
