{% macro default__snapshot_staging_table(strategy, source_sql, target_relation) -%}
    {%- if not returns_changed_keys() -%}
        {{ return(dbt.default__snapshot_staging_table(strategy, source_sql, target_relation)) }}
    {%- endif -%}
    {#- `snapshot_query` is what dbt calls the rows of the snapshot's own query. -#}
    {%- set of_rows_at_hand -%}
        (
            select versions.*
            from {{ target_relation }} as versions
            where versions.{{ strategy.unique_key }} in (
                select distinct {{ strategy.unique_key }} from snapshot_query
            )
        ) as versions
    {%- endset -%}
    {{ return(dbt.default__snapshot_staging_table(strategy, source_sql, of_rows_at_hand)) }}
{%- endmacro %}


{% macro redshift__snapshot_staging_table(strategy, source_sql, target_relation) -%}
    {%- if not returns_changed_keys() -%}
        {{ return(dbt.default__snapshot_staging_table(strategy, source_sql, target_relation)) }}
    {%- endif -%}
    {#- Of a table the planner knows how many rows it has; of new rows in a query it guesses none. -#}
    {%- set rows_at_hand = make_temp_relation(target_relation, '__rows_at_hand') -%}
    {%- do run_query(create_table_as(True, rows_at_hand, source_sql)) -%}
    {{
        return(
            default__snapshot_staging_table(
                strategy, 'select * from ' ~ rows_at_hand, target_relation
            )
        )
    }}
{%- endmacro %}
