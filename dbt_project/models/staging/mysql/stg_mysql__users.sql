with

source as (

    select * from {{ source('mysql', 'users') }}

),

renamed as (

    select
        -- ids
        cast(id as {{ dbt.type_bigint() }}) as user_id,

        -- strings
        email as email_hash,
        country,
        plan,

        -- booleans
        is_active = 1 as is_active,

        -- timestamps
        cast(signed_up_at as {{ dbt.type_timestamp() }}) as signed_up_at,
        cast(updated_at as {{ dbt.type_timestamp() }}) as updated_at,
        cast(_loaded_at as {{ dbt.type_timestamp() }}) as _loaded_at

    from source

)

select * from renamed
