{{ config(materialized='view') }}

select
    nps_response_id,
    user_id,
    comment,
    channel,
    score,
    is_deleted,
    responded_at,
    updated_at,
    deleted_at,
    _loaded_at
from {{ ref('int_nps_responses_versions') }}
where replaced_at is null
