{{ config(dist='all', sort='loaded_at') }}

with

batches as (

    select * from {{ ref('stg_mysql__batches') }}
    union all
    select * from {{ ref('stg_google_sheets__batches') }}

),

-- The clocks of the source and of the loader may differ by five minutes. BigQuery compares no
-- timestamp with a datetime, which is what adding minutes gives there.
read_times as (

    select
        *,
        cast({{ dbt.dateadd('minute', -5, 'extracted_at') }} as {{ dbt.type_timestamp() }})
            as read_earliest,
        cast({{ dbt.dateadd('minute', 5, 'extracted_at') }} as {{ dbt.type_timestamp() }})
            as read_latest
    from batches

),

-- A batch has nothing that was written after it was read, even if its interval ends later.
read_until as (

    select
        *,
        case
            when interval_end <= read_latest then interval_end
            when interval_end is not null then read_earliest
        end as read_until
    from read_times

),

final as (

    select
        source_table,
        batch_id,
        interval_start,
        interval_end,
        cast(
            max(read_until) over (
                partition by source_table
                order by coalesce(interval_start, cast('1970-01-01' as {{ dbt.type_timestamp() }}))
                rows between unbounded preceding and 1 preceding
            ) as {{ dbt.type_timestamp() }}
        ) as loaded_until_before,
        row_count,
        byte_count,
        manifest_url,
        extracted_at,
        loaded_at
    from read_until

)

select * from final
