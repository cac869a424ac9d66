with

source as (

    select * from {{ source('google_sheets', '_batches') }}

),

renamed as (

    select
        -- strings
        table_name as source_table,
        batch_id,
        manifest_url,

        -- numerics
        row_count,
        byte_count,

        -- timestamps
        cast(interval_start as {{ dbt.type_timestamp() }}) as interval_start,
        cast(interval_end as {{ dbt.type_timestamp() }}) as interval_end,
        cast(extracted_at as {{ dbt.type_timestamp() }}) as extracted_at,
        cast(loaded_at as {{ dbt.type_timestamp() }}) as loaded_at

    from source

)

select * from renamed
