{% macro recently_loaded(loads) -%}
    {%- set days = var('tested_days') -%}
    {%- if days == 'all' or flags.FULL_REFRESH or not execute or flags.INTROSPECT is false -%}
        {{ return('true') }}
    {%- endif -%}
    {#- `dbt docs generate` compiles the tests of tables that are yet to be loaded. -#}
    {%- if load_relation(loads) is none -%}
        {{ return('true') }}
    {%- endif -%}
    {#- A constant, as no warehouse prunes blocks by what a subquery will say. -#}
    {%- set newest = run_query('select max(_loaded_at) from ' ~ loads).columns[0][0] -%}
    {%- if newest is none -%}
        {{ return('true') }}
    {%- endif -%}
    {%- set since = newest - modules.datetime.timedelta(days=days) -%}
    _loaded_at > cast('{{ since.strftime("%Y-%m-%d %H:%M:%S.%f") }}' as {{ dbt.type_timestamp() }})
{%- endmacro %}


{% macro default__get_where_subquery(relation) -%}
    {%- set subquery = dbt.default__get_where_subquery(relation) -%}
    {%- set asked = modules.re.search('recently_loaded\((\w+)\.(\w+)\)', config.get('where') or '') -%}
    {%- if not asked -%}
        {{ return(subquery) }}
    {%- endif -%}
    {%- set loads = source(asked.group(1), asked.group(2)) -%}
    {{ return(subquery | replace(asked.group(0), recently_loaded(loads))) }}
{%- endmacro %}
