{{
    config(
        materialized='incremental',
        unique_key=['city', 'forecast_date'],
        dist='all',
        sort='forecast_date'
    )
}}

with

delivered as (

    select * from {{ ref('stg_open_meteo__daily_forecasts') }}
    {%- if is_incremental() %}
        where _loaded_at > {{ loaded_until(this) }}
    {%- endif %}

),

candidates as (

    select * from delivered
    {%- if is_incremental() %}
        union all
        -- A day that arrives late has an older forecast than this table: compare both.
        select
            city,
            temperature_high,
            temperature_low,
            precipitation_mm,
            forecast_date,
            forecast_on,
            _loaded_at
        from {{ this }}
        where forecast_date in (select delivered.forecast_date from delivered)
    {%- endif %}

),

final as (

    select forecasts.* from candidates as forecasts
    qualify
        row_number() over (
            partition by forecasts.city, forecasts.forecast_date
            order by forecasts.forecast_on desc, forecasts._loaded_at desc
        ) = 1

)

select * from final
