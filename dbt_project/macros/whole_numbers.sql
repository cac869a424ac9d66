{% macro whole_numbers(count) -%}
    {%- for number in range(count) -%}
        select {{ number }} as whole_number {{- ' union all ' if not loop.last }}
    {%- endfor -%}
{%- endmacro %}
