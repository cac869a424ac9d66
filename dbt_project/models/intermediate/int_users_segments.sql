{#- No full refresh: every run ends with what a refresh would give, and the days need the past. #}
{{
    config(
        full_refresh=false,
        incremental_strategy='merge',
        unique_key=['user_id', '_loaded_at'],
        merge_update_columns=['replaced_at'],
        dist='user_id',
        sort='user_id'
    )
}}

with

users as (

    select
        user_id,
        coalesce(plan, 'none') as segment,
        _loaded_at
    from {{ ref('stg_mysql__users') }}

),

{%- if is_incremental() %}

known as (

    select * from {{ this }}
    where replaced_at is null

),

latest_load as (

    select max(_loaded_at) as _loaded_at from users

),

-- Of users that are in another segment now, and of users that are gone.
ended as (

    select
        known.user_id,
        known.segment,
        known._loaded_at,
        latest_load._loaded_at as replaced_at
    from known
    cross join latest_load
    left join users
        on
            known.user_id = users.user_id
            and known.segment = users.segment
    where users.user_id is null

),
{%- endif %}

begun as (

    select
        users.user_id,
        users.segment,
        users._loaded_at,
        cast(null as {{ dbt.type_timestamp() }}) as replaced_at
    from users
    {%- if is_incremental() %}
    left join known
        on
            users.user_id = known.user_id
            and users.segment = known.segment
    where known.user_id is null
    {%- endif %}

)

select * from begun
{%- if is_incremental() %}
union all
select * from ended
{%- endif %}
