{% macro current_versions(versions, key, columns, updated_at='updated_at', loaded_at='_loaded_at') -%}

with

new_versions as (

    select versions.*
    from {{ versions }} as versions
    {%- if is_incremental() %}
    where versions.{{ loaded_at }} > {{ loaded_until(this, key, loaded_at) }}
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

winning as (

    select
        latest.*,
        known.{{ loaded_at }} as known_loaded_at
    from latest
    left join {{ this }} as known
        on
            latest.{{ key }} = known.{{ key }}
            and known.replaced_at is null
    where
        known.{{ key }} is null
        or known.{{ updated_at }} < latest.{{ updated_at }}
        or (
            known.{{ updated_at }} = latest.{{ updated_at }}
            and known.{{ loaded_at }} < latest.{{ loaded_at }}
        )

),

{#- The merge takes nothing but `replaced_at` into a row that is there already. #}
replaced as (

    select
        {% for column in columns -%}
        {{ 'known_loaded_at as ' ~ column if column == loaded_at else column }},
        {% endfor -%}
        {{ loaded_at }} as replaced_at
    from winning
    where known_loaded_at is not null

)

select
    {{ columns | join(',\n    ') }},
    cast(null as {{ dbt.type_timestamp() }}) as replaced_at
from winning
union all
select * from replaced
{%- else %}

select
    *,
    cast(null as {{ dbt.type_timestamp() }}) as replaced_at
from latest
{%- endif %}

{%- endmacro %}
