{% macro net_promoter_score(promoters, detractors, responses) -%}
    cast(
        round(100.0 * ({{ promoters }} - {{ detractors }}) / {{ responses }}, 2) as numeric(5, 2)
    )
{%- endmacro %}
