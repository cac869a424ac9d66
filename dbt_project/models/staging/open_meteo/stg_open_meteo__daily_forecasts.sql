with

source as (

    select * from {{ source('open_meteo', 'daily_forecasts') }}

),

renamed as (

    select
        -- strings
        city,

        -- numerics
        temperature_2m_max as temperature_high,
        temperature_2m_min as temperature_low,
        precipitation_sum as precipitation_mm,

        -- dates
        date as forecast_date,
        forecast_on,

        -- timestamps
        cast(_loaded_at as {{ dbt.type_timestamp() }}) as _loaded_at

    from source

)

select * from renamed
