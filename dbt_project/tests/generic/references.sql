{% test references(model, column_name, to, field) %}

{#- A list to look things up in, and no join: few new rows must not make it a nested loop. -#}
select {{ column_name }}
from {{ model }}
where
    {{ column_name }} is not null
    and {{ column_name }} not in (select {{ field }} from {{ to }} where {{ field }} is not null)

{% endtest %}
