with

source as (

    select * from {{ source('google_sheets', 'nps_targets') }}

),

renamed as (

    select
        -- strings
        segment,
        owner,

        -- numerics
        cast(target_nps as numeric(5, 2)) as target_nps,

        -- dates
        month,

        -- timestamps
        cast(_loaded_at as {{ dbt.type_timestamp() }}) as _loaded_at

    from source

)

select * from renamed
