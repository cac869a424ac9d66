{% macro loaded_until(relation) -%}
    {{ adapter.dispatch('loaded_until')(relation) }}
{%- endmacro %}

{% macro default__loaded_until(relation) -%}
    (
        select coalesce(max(known._loaded_at), cast('1970-01-01' as {{ dbt.type_timestamp() }}))
        from {{ relation }} as known
    )
{%- endmacro %}

{% macro bigquery__loaded_until(relation) -%}
    {#- A constant: BigQuery reads every partition when it compares with the result of a subquery.
        In a unit test the relation is a name in the query. -#}
    {%- if execute and relation is not string and load_relation(relation) -%}
        {%- set query -%}
            select cast(max(_loaded_at) as string) from {{ relation }}
        {%- endset -%}
        cast('{{ run_query(query).rows[0][0] or '1970-01-01' }}' as {{ dbt.type_timestamp() }})
    {%- else -%}
        {{ millrace.default__loaded_until(relation) }}
    {%- endif -%}
{%- endmacro %}
