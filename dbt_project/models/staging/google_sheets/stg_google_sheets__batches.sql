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
        interval_start,
        interval_end,
        extracted_at,
        loaded_at

    from source

)

select * from renamed
