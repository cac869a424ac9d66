{% macro is_incremental() %}
    {#- dbt's own form asks the warehouse whether the table is there, even under --no-introspect. #}
    {%- if execute and flags.INTROSPECT is false -%}
        {{ return(model.config.materialized == 'incremental' and not should_full_refresh()) }}
    {%- endif -%}
    {{ return(dbt.is_incremental()) }}
{% endmacro %}
