{{ config(materialized='view') }}

with

responses as (

    select * from {{ ref('int_nps_responses_deduplicated') }}

),

plan_periods as (

    select * from {{ ref('int_users_plan_periods') }}

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
        coalesce(plan_periods.segment, 'none') as segment,
        plan_periods.country as user_country,
        responses.score,
        cast(responses.responded_at as date) as response_date,
        responses.responded_at,
        responses.updated_at
    from responses
    left join plan_periods
        on
            responses.user_id = plan_periods.user_id
            and responses.responded_at >= plan_periods.valid_from
            and responses.responded_at < plan_periods.valid_to
    where not responses.is_deleted

)

select * from final
