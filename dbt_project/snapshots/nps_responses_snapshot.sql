{% snapshot nps_responses_snapshot %}

    {{
        config(
            unique_key='nps_response_id',
            strategy='timestamp',
            updated_at='updated_at',
            dist='nps_response_id',
            sort='nps_response_id',
            cluster_by='nps_response_id'
        )
    }}

    select
        nps_response_id,
        score,
        comment,
        is_deleted,
        updated_at,
        _loaded_at
    from {{ ref('int_nps_responses_deduplicated') }}
    {%- if load_relation(this) %}
        -- A deleted row is loaded again, with a flag: rows that were not loaded did not change.
        where _loaded_at > {{ loaded_until(this) }}
    {%- endif %}

{% endsnapshot %}
