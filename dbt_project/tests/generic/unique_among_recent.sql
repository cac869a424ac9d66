{% test unique_among_recent(model, column_name, loads, key) %}

{#- Distinct, so that the planner takes the new keys for the short list that they are. -#}
select {{ column_name }}
from {{ model }}
where {{ column_name }} in (
    select distinct cast({{ key }} as {{ dbt.type_bigint() }})
    from {{ loads }}
    where {{ recently_loaded(loads) }}
)
group by {{ column_name }}
having count(*) > 1

{% endtest %}
