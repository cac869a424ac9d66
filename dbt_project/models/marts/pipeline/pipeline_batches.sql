{{ config(dist='all', sort='loaded_at') }}

with

batches as (

    select * from {{ ref('stg_mysql__batches') }}
    union all
    select * from {{ ref('stg_google_sheets__batches') }}

),

-- A batch has nothing that was written after it was read, even if its interval ends later. The
-- clocks of the source and of the loader may differ by five minutes.
read_until as (

    select
        *,
        case
            when interval_end <= {{ dbt.dateadd('minute', 5, 'extracted_at') }} then interval_end
            when interval_end is not null then {{ dbt.dateadd('minute', -5, 'extracted_at') }}
        end as read_until
    from batches

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
