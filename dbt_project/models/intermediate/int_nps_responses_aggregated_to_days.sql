{{
    config(
        incremental_strategy='merge',
        unique_key=['response_date', 'segment'],
        dist='all',
        sort='response_date'
    )
}}

{%- set never = "cast('1970-01-01' as " ~ dbt.type_timestamp() ~ ")" -%}
{#- What was loaded until then is counted already. -#}
{%- set counted_responses = never -%}
{%- set counted_users = never -%}
{%- set known = '' -%}
{%- if is_incremental() -%}
    {%- set counted_responses -%}
        (select coalesce(max(responses_loaded_at), {{ never }}) from {{ this }})
    {%- endset -%}
    {%- set counted_users -%}
        (select coalesce(max(users_loaded_at), {{ never }}) from {{ this }})
    {%- endset -%}
    {%- set known = 'coalesce(known.{}, 0) + ' -%}
{%- endif -%}

with

versions as (

    select * from {{ ref('int_nps_responses_versions') }}

),

segments as (

    select * from {{ ref('int_users_segments') }}

),

{%- if is_incremental() %}

moved_users as (

    select distinct user_id
    from segments
    where
        _loaded_at > {{ counted_users }}
        or replaced_at > {{ counted_users }}

),
{%- endif %}

-- One pass: the versions that came or went since, and all those of users who moved.
affected_versions as (

    select * from versions
    {%- if is_incremental() %}
    where
        _loaded_at > {{ counted_responses }}
        or replaced_at > {{ counted_responses }}
        or user_id in (select moved_users.user_id from moved_users)
    {%- endif %}

),

contributions as (

    select
        cast(versions.responded_at as date) as response_date,
        coalesce(segments.segment, 'none') as segment,
        versions.score,
        1 as responses
    from affected_versions as versions
    left join segments
        on
            versions.user_id = segments.user_id
            and segments.replaced_at is null
    where
        versions.replaced_at is null
        and not versions.is_deleted

    {%- if is_incremental() %}

    union all

    -- What was counted for them: the version and the segment of that time.
    select
        cast(versions.responded_at as date) as response_date,
        coalesce(segments.segment, 'none') as segment,
        versions.score,
        -1 as responses
    from affected_versions as versions
    left join segments
        on
            versions.user_id = segments.user_id
            and segments._loaded_at <= {{ counted_users }}
            and (segments.replaced_at is null or segments.replaced_at > {{ counted_users }})
    where
        versions._loaded_at <= {{ counted_responses }}
        and (versions.replaced_at is null or versions.replaced_at > {{ counted_responses }})
        and not versions.is_deleted
    {%- endif %}

),

days as (

    select
        response_date,
        segment,
        sum(responses) as responses,
        sum(case when score >= 9 then responses else 0 end) as promoters,
        sum(case when score between 7 and 8 then responses else 0 end) as passives,
        sum(case when score <= 6 then responses else 0 end) as detractors
    from contributions
    group by response_date, segment

),

-- Never less than before, or what is counted would be counted again.
loads as (

    select
        greatest(
            {{ counted_responses }}, coalesce(max(versions._loaded_at), {{ never }})
        ) as responses_loaded_at,
        greatest(
            {{ counted_users }},
            (
                select
                    coalesce(
                        max(coalesce(segments.replaced_at, segments._loaded_at)), {{ never }}
                    )
                from segments
            )
        ) as users_loaded_at
    from affected_versions as versions

),

final as (

    select
        days.response_date,
        days.segment,
        cast({{ known.format('responses') }}days.responses as {{ dbt.type_int() }}) as responses,
        cast({{ known.format('promoters') }}days.promoters as {{ dbt.type_int() }}) as promoters,
        cast({{ known.format('passives') }}days.passives as {{ dbt.type_int() }}) as passives,
        cast({{ known.format('detractors') }}days.detractors as {{ dbt.type_int() }}) as detractors,
        loads.responses_loaded_at,
        loads.users_loaded_at
    from days
    cross join loads
    {%- if is_incremental() %}
    left join {{ this }} as known
        on
            days.response_date = known.response_date
            and days.segment = known.segment
    where
        days.responses <> 0
        or days.promoters <> 0
        or days.passives <> 0
        or days.detractors <> 0
    {%- endif %}

)

select * from final
