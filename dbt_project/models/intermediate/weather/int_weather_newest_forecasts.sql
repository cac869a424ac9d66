with

forecasts as (

    select * from {{ ref('stg_open_meteo__daily_forecasts') }}

),

final as (

    select forecasts.* from forecasts
    qualify
        row_number() over (
            partition by forecasts.city, forecasts.forecast_date
            order by forecasts.forecast_on desc, forecasts._loaded_at desc
        ) = 1

)

select * from final
