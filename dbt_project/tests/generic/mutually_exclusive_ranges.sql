{% test mutually_exclusive_ranges(
    model, lower_bound_column, upper_bound_column, partition_by, gaps='allowed'
) %}

{%- set meets = '=' if gaps == 'not_allowed' else '<=' %}

with

ranges as (

    select
        {{ partition_by }} as range_of,
        {{ lower_bound_column }} as lower_bound,
        {{ upper_bound_column }} as upper_bound,
        lead({{ lower_bound_column }}) over (
            partition by {{ partition_by }}
            order by {{ lower_bound_column }}, {{ upper_bound_column }}
        ) as next_lower_bound
    from {{ model }}

)

select *
from ranges
where
    not coalesce(lower_bound < upper_bound, false)
    or not upper_bound {{ meets }} next_lower_bound

{% endtest %}
