{{
    config(
        materialized='incremental',
        unique_key='nps_response_id',
        dist='nps_response_id',
        sort='nps_response_id',
        partition_by=by_month('_loaded_at'),
        cluster_by='nps_response_id'
    )
}}

with

delivered as (

    select * from {{ ref('stg_mysql__nps_responses') }}
    {%- if is_incremental() %}
        where _loaded_at > {{ loaded_until(this) }}
    {%- endif %}

),

candidates as (

    select * from delivered
    {%- if is_incremental() %}
        union all
        -- A version that arrives late may be older than the one in this table: compare both.
        select
            nps_response_id,
            user_id,
            comment,
            channel,
            score,
            is_deleted,
            responded_at,
            updated_at,
            deleted_at,
            _loaded_at
        from {{ this }}
        where nps_response_id in (select delivered.nps_response_id from delivered)
    {%- endif %}

),

final as (

    select versions.* from candidates as versions
    qualify
        row_number() over (
            partition by versions.nps_response_id
            order by versions.updated_at desc, versions._loaded_at desc
        ) = 1

)

select * from final
