{% macro net_promoter_score(promoters, detractors, responses) -%}
    {#- As numeric before it is rounded: where the division gives a float, 1.005 is a little less.
        From bigint: Redshift divides its widest numeric, the type of a sum, to four decimals. -#}
    {%- set difference = 'cast(' ~ promoters ~ ' - ' ~ detractors ~ ' as ' ~ dbt.type_bigint() ~ ')' -%}
    {%- set total = 'cast(' ~ responses ~ ' as ' ~ dbt.type_bigint() ~ ')' -%}
    cast(
        round(cast(100.0 * {{ difference }} / {{ total }} as numeric(28, 9)), 2) as numeric(5, 2)
    )
{%- endmacro %}
