{% macro redshift__get_merge_sql(
    target, source, unique_key, dest_columns, incremental_predicates=none
) -%}
    {%- set predicates = incremental_predicates or [] -%}
    {%- set key = unique_key if unique_key is string else (unique_key or [''])[0] -%}
    {%- if key | lower in dest_columns | map(attribute='name') | map('lower') -%}
        {%- set first, last = run_query(
            'select min(' ~ key ~ '), max(' ~ key ~ ') from ' ~ source
        ).rows[0].values() -%}
        {#- Texts are left to dbt: how they are written, and compared, is another matter. #}
        {%- if first is number or first.isoformat is defined -%}
            {%- set range = "DBT_INTERNAL_DEST." ~ key ~ " between '" ~ first ~ "' and '" ~ last ~ "'" -%}
            {%- set predicates = predicates + [range] -%}
        {%- endif -%}
    {%- endif -%}
    {{
        return(
            dbt.redshift__get_merge_sql(
                target, source, unique_key, dest_columns, predicates
            )
        )
    }}
{%- endmacro %}
