{% macro latest_versions(versions, key, columns, updated_at='updated_at', loaded_at='_loaded_at') -%}

with

new_versions as (

    select versions.*
    from {{ versions }} as versions
    {%- if is_incremental() %}
    {#- A table that holds no row yet has no greatest value; comparing with NULL would load nothing. #}
    where versions.{{ loaded_at }} > (
        select coalesce(max(known.{{ loaded_at }}), cast('1970-01-01' as {{ dbt.type_timestamp() }}))
        from {{ this }} as known
    )
    {%- endif %}

),

ranked as (

    select
        *,
        row_number() over (
            partition by {{ key }}
            order by {{ updated_at }} desc, {{ loaded_at }} desc
        ) as version_rank
    from new_versions

),

latest as (

    select
        {{ columns | join(',\n        ') }}
    from ranked
    where version_rank = 1

)

{%- if is_incremental() %},

{#- The join, rather than a union with the rows already there, lets the table lag behind a new column. #}
winning as (

    select latest.*
    from latest
    left join {{ this }} as known
        on latest.{{ key }} = known.{{ key }}
    where
        known.{{ key }} is null
        or known.{{ updated_at }} < latest.{{ updated_at }}
        or (
            known.{{ updated_at }} = latest.{{ updated_at }}
            and known.{{ loaded_at }} < latest.{{ loaded_at }}
        )

)

select * from winning
{%- else %}

select * from latest
{%- endif %}

{%- endmacro %}
