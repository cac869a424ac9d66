{% macro returns_changed_keys() -%}
    {%- if not (config.get('meta') or {}).get('returns_changed_keys') -%}
        {{ return(false) }}
    {%- endif -%}
    {%- set key = config.get('unique_key') -%}
    {%- set unfit = [] -%}
    {%- if key is not string or not modules.re.fullmatch('\w+', key) -%}
        {%- do unfit.append('its unique_key is not one column') -%}
    {%- endif -%}
    {%- if adapter.get_hard_deletes_behavior(config) != 'ignore' -%}
        {%- do unfit.append('its hard_deletes is not ignore') -%}
    {%- endif -%}
    {%- if config.get('dbt_valid_to_current') -%}
        {%- do unfit.append('it has dbt_valid_to_current') -%}
    {%- endif -%}
    {%- if (model.config.snapshot_meta_column_names or {}).values() | select | list -%}
        {%- do unfit.append('it has snapshot_meta_column_names') -%}
    {%- endif -%}
    {%- if unfit -%}
        {{
            exceptions.raise_compiler_error(
                'Snapshot ' ~ model.name ~ ' has meta.returns_changed_keys, but '
                ~ unfit | join(', and ') ~ '. Take that out of its meta: dbt then compares all keys.'
            )
        }}
    {%- endif -%}
    {{ return(true) }}
{%- endmacro %}
