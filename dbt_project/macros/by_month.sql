{% macro by_month(column) -%}
    {%- if target.type == 'bigquery' -%}
        {{ return({'field': column, 'data_type': 'timestamp', 'granularity': 'month'}) }}
    {%- endif -%}
{%- endmacro %}
