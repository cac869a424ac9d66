{% test row_counts_match_ledger(model, ledger, source_table) %}

with

loaded as (

    select
        _batch_id as batch_id,
        count(*) as loaded_rows
    from {{ model }}
    group by _batch_id

),

recorded as (

    select
        batch_id,
        row_count
    from {{ ledger }}
    where table_name = '{{ source_table }}'

)

select
    coalesce(loaded.batch_id, recorded.batch_id) as batch_id,
    loaded.loaded_rows,
    recorded.row_count
from recorded
full outer join loaded
    on recorded.batch_id = loaded.batch_id
where
    coalesce(loaded.loaded_rows, 0) <> coalesce(recorded.row_count, 0)
    or recorded.batch_id is null

{% endtest %}
