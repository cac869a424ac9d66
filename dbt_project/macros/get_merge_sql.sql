{% macro redshift__get_merge_sql(
    target, source, unique_key, dest_columns, incremental_predicates=none
) -%}
    {%- set key = unique_key if unique_key is string else unique_key[0] -%}
    {%- set first, last = run_query(
        'select min(' ~ key ~ '), max(' ~ key ~ ') from ' ~ source
    ).rows[0].values() -%}
    {%- set predicates = incremental_predicates or [] -%}
    {%- if first is not none -%}
        {%- set range = "DBT_INTERNAL_DEST." ~ key ~ " between '" ~ first ~ "' and '" ~ last ~ "'" -%}
        {%- set predicates = predicates + [range] -%}
    {%- endif -%}
    {{
        return(
            dbt.redshift__get_merge_sql(
                target, source, unique_key, dest_columns, predicates
            )
        )
    }}
{%- endmacro %}
