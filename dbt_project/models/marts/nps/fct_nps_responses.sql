{#- Unbound, so that it outlives the views that it reads when Redshift makes them anew. #}
{{ config(materialized='view', bind=false) }}

with

responses as (

    select * from {{ ref('int_nps_responses_deduplicated') }}

),

users as (

    select * from {{ ref('stg_mysql__users') }}

),

final as (

    select
        responses.nps_response_id,
        responses.user_id,
        responses.comment,
        responses.channel,
        case
            when responses.score >= 9 then 'promoter'
            when responses.score >= 7 then 'passive'
            else 'detractor'
        end as category,
        users.country as user_country,
        users.plan as user_plan,
        responses.score,
        cast(responses.responded_at as date) as response_date,
        responses.responded_at,
        responses.updated_at
    from responses
    left join users
        on responses.user_id = users.user_id
    where not responses.is_deleted

)

select * from final
