with

source as (

    select * from {{ source('mysql', 'nps') }}

),

renamed as (

    select
        -- ids
        cast(id as {{ dbt.type_bigint() }}) as nps_response_id,
        cast(user_id as {{ dbt.type_bigint() }}) as user_id,

        -- strings
        comment,
        channel,

        -- numerics
        cast(score as {{ dbt.type_int() }}) as score,

        -- booleans
        deleted_at is not null as is_deleted,

        -- timestamps
        cast(created_at as {{ dbt.type_timestamp() }}) as responded_at,
        cast(updated_at as {{ dbt.type_timestamp() }}) as updated_at,
        cast(deleted_at as {{ dbt.type_timestamp() }}) as deleted_at,
        cast(_loaded_at as {{ dbt.type_timestamp() }}) as _loaded_at

    from source

)

select * from renamed
