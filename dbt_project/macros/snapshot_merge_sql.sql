{% macro default__snapshot_merge_sql(target, source, insert_cols) -%}
    {%- if returns_changed_keys() -%}
        {{ return(merge_changed_keys(target, source, insert_cols)) }}
    {%- endif -%}
    {{ return(dbt.default__snapshot_merge_sql(target, source, insert_cols)) }}
{%- endmacro %}

{% macro duckdb__snapshot_merge_sql(target, source, insert_cols) -%}
    {%- if returns_changed_keys() -%}
        {{ return(merge_changed_keys(target, source, insert_cols)) }}
    {%- endif -%}
    {{ return(dbt.duckdb__snapshot_merge_sql(target, source, insert_cols)) }}
{%- endmacro %}

{% macro redshift__snapshot_merge_sql(target, source, insert_cols) -%}
    {%- if returns_changed_keys() -%}
        {{ return(merge_changed_keys(target, source, insert_cols)) }}
    {%- endif -%}
    {{ return(dbt.redshift__snapshot_merge_sql(target, source, insert_cols)) }}
{%- endmacro %}


{% macro merge_changed_keys(target, source, insert_cols) -%}
    {%- set key = config.get('unique_key') %}

    update {{ target }}
    set dbt_valid_to = changes.dbt_valid_to
    from {{ source }} as changes
    where
        {{ target.identifier }}.{{ key }} = changes.{{ key }}
        and {{ target.identifier }}.dbt_valid_to is null
        and changes.dbt_change_type = 'update';

    insert into {{ target }} ({{ insert_cols | join(', ') }})
    select {{ insert_cols | join(', ') }}
    from {{ source }}
    where dbt_change_type = 'insert'
{%- endmacro %}
