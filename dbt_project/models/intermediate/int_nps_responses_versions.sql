{{
    config(
        incremental_strategy='merge',
        unique_key=['nps_response_id', '_loaded_at'],
        merge_update_columns=['replaced_at'],
        dist='nps_response_id',
        sort='nps_response_id'
    )
}}

{{
    current_versions(
        versions=ref('stg_mysql__nps_responses'),
        key='nps_response_id',
        columns=[
            'nps_response_id',
            'user_id',
            'comment',
            'channel',
            'score',
            'is_deleted',
            'responded_at',
            'updated_at',
            'deleted_at',
            '_loaded_at',
        ]
    )
}}
