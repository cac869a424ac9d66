{% snapshot nps_responses_snapshot %}

{{
    config(
        unique_key='nps_response_id',
        strategy='check',
        check_cols=['score', 'comment', 'is_deleted'],
        updated_at='updated_at',
        hard_deletes='ignore',
        meta={'returns_changed_keys': true},
        dist='nps_response_id',
        sort='nps_response_id'
    )
}}

{%- set delivered = ref('stg_mysql__nps_responses') %}

select * from {{ ref('int_nps_responses_deduplicated') }}
{%- if execute and flags.INTROSPECT and load_relation(this) %}
{#- Only the responses that came since the snapshot last looked. A constant lets the warehouse pass
    over older loads, and find the responses by their key. #}
{%- set seen = run_query('select ' ~ loaded_until(this, 'nps_response_id')).columns[0][0] %}
where nps_response_id in (
    select distinct nps_response_id from {{ delivered }}
    where _loaded_at > cast('{{ seen }}' as {{ dbt.type_timestamp() }})
)
{%- endif %}

{% endsnapshot %}
