{% macro loaded_until(relation, key, loaded_at='_loaded_at') -%}
    (
        select coalesce(max({{ loaded_at }}), cast('1970-01-01' as {{ dbt.type_timestamp() }}))
        from (
            select {{ loaded_at }} from {{ relation }}
            order by {{ key }} desc
            limit 10000
        ) as newest
    )
{%- endmacro %}
