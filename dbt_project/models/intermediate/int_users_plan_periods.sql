with

versions as (

    select * from {{ ref('users_snapshot') }}

),

final as (

    select
        user_id,
        country,
        coalesce(plan, 'none') as segment,
        -- The plan before the earliest known version is unknown: that version is used for it.
        case
            when dbt_valid_from > min(dbt_valid_from) over (partition by user_id)
                then dbt_valid_from
            else cast('1970-01-01' as {{ dbt.type_timestamp() }})
        end as valid_from,
        coalesce(dbt_valid_to, cast('9999-12-31' as {{ dbt.type_timestamp() }})) as valid_to
    from versions

)

select * from final
