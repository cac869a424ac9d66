-- The shapes of MySQL's example database sakila: its 16 tables and 7 views, with rows of our own.
create database sakila character set utf8mb4;
use sakila;
set foreign_key_checks = 0;

create table actor (
    actor_id smallint unsigned not null auto_increment primary key,
    first_name varchar(45) not null,
    last_name varchar(45) not null,
    last_update timestamp not null default current_timestamp on update current_timestamp,
    key idx_actor_last_name (last_name)
);
create table country (
    country_id smallint unsigned not null auto_increment primary key,
    country varchar(50) not null,
    last_update timestamp not null default current_timestamp on update current_timestamp
);
create table city (
    city_id smallint unsigned not null auto_increment primary key,
    city varchar(50) not null,
    country_id smallint unsigned not null,
    last_update timestamp not null default current_timestamp on update current_timestamp,
    foreign key (country_id) references country (country_id) on delete restrict on update cascade
);
create table address (
    address_id smallint unsigned not null auto_increment primary key,
    address varchar(50) not null,
    address2 varchar(50) default null,
    district varchar(20) not null,
    city_id smallint unsigned not null,
    postal_code varchar(10) default null,
    phone varchar(20) not null,
    location geometry not null,
    last_update timestamp not null default current_timestamp on update current_timestamp,
    spatial key idx_location (location),
    foreign key (city_id) references city (city_id) on delete restrict on update cascade
);
create table category (
    category_id tinyint unsigned not null auto_increment primary key,
    name varchar(25) not null,
    last_update timestamp not null default current_timestamp on update current_timestamp
);
create table language (
    language_id tinyint unsigned not null auto_increment primary key,
    name char(20) not null,
    last_update timestamp not null default current_timestamp on update current_timestamp
);
create table store (
    store_id tinyint unsigned not null auto_increment primary key,
    manager_staff_id tinyint unsigned not null unique,
    address_id smallint unsigned not null,
    last_update timestamp not null default current_timestamp on update current_timestamp,
    foreign key (manager_staff_id) references staff (staff_id),
    foreign key (address_id) references address (address_id)
);
create table staff (
    staff_id tinyint unsigned not null auto_increment primary key,
    first_name varchar(45) not null,
    last_name varchar(45) not null,
    address_id smallint unsigned not null,
    picture blob default null,
    email varchar(50) default null,
    store_id tinyint unsigned not null,
    active boolean not null default true,
    username varchar(16) not null,
    password varchar(40) character set utf8mb4 collate utf8mb4_bin default null,
    last_update timestamp not null default current_timestamp on update current_timestamp,
    foreign key (store_id) references store (store_id),
    foreign key (address_id) references address (address_id)
);
create table customer (
    customer_id smallint unsigned not null auto_increment primary key,
    store_id tinyint unsigned not null,
    first_name varchar(45) not null,
    last_name varchar(45) not null,
    email varchar(50) default null,
    address_id smallint unsigned not null,
    active boolean not null default true,
    create_date datetime not null,
    last_update timestamp default current_timestamp on update current_timestamp,
    foreign key (address_id) references address (address_id),
    foreign key (store_id) references store (store_id)
);
create table film (
    film_id smallint unsigned not null auto_increment primary key,
    title varchar(128) not null,
    description text default null,
    release_year year default null,
    language_id tinyint unsigned not null,
    original_language_id tinyint unsigned default null,
    rental_duration tinyint unsigned not null default 3,
    rental_rate decimal(4, 2) not null default 4.99,
    length smallint unsigned default null,
    replacement_cost decimal(5, 2) not null default 19.99,
    rating enum('G', 'PG', 'PG-13', 'R', 'NC-17') default 'G',
    special_features set('Trailers', 'Commentaries', 'Deleted Scenes', 'Behind the Scenes'),
    last_update timestamp not null default current_timestamp on update current_timestamp,
    foreign key (language_id) references language (language_id),
    foreign key (original_language_id) references language (language_id)
);
create table film_actor (
    actor_id smallint unsigned not null,
    film_id smallint unsigned not null,
    last_update timestamp not null default current_timestamp on update current_timestamp,
    primary key (actor_id, film_id),
    foreign key (actor_id) references actor (actor_id),
    foreign key (film_id) references film (film_id)
);
create table film_category (
    film_id smallint unsigned not null,
    category_id tinyint unsigned not null,
    last_update timestamp not null default current_timestamp on update current_timestamp,
    primary key (film_id, category_id),
    foreign key (film_id) references film (film_id),
    foreign key (category_id) references category (category_id)
);
create table film_text (
    film_id smallint unsigned not null primary key,
    title varchar(255) not null,
    description text,
    fulltext key idx_title_description (title, description)
);
create table inventory (
    inventory_id mediumint unsigned not null auto_increment primary key,
    film_id smallint unsigned not null,
    store_id tinyint unsigned not null,
    last_update timestamp not null default current_timestamp on update current_timestamp,
    foreign key (film_id) references film (film_id),
    foreign key (store_id) references store (store_id)
);
create table rental (
    rental_id int not null auto_increment primary key,
    rental_date datetime not null,
    inventory_id mediumint unsigned not null,
    customer_id smallint unsigned not null,
    return_date datetime default null,
    staff_id tinyint unsigned not null,
    last_update timestamp not null default current_timestamp on update current_timestamp,
    unique key (rental_date, inventory_id, customer_id),
    foreign key (inventory_id) references inventory (inventory_id),
    foreign key (customer_id) references customer (customer_id),
    foreign key (staff_id) references staff (staff_id)
);
create table payment (
    payment_id smallint unsigned not null auto_increment primary key,
    customer_id smallint unsigned not null,
    staff_id tinyint unsigned not null,
    rental_id int default null,
    amount decimal(5, 2) not null,
    payment_date datetime not null,
    last_update timestamp default current_timestamp on update current_timestamp,
    foreign key (customer_id) references customer (customer_id),
    foreign key (staff_id) references staff (staff_id),
    foreign key (rental_id) references rental (rental_id) on delete set null
);

create view customer_list as
select
    customer.customer_id as id,
    concat(customer.first_name, ' ', customer.last_name) as name,
    address.address,
    address.postal_code as `zip code`,
    address.phone,
    city.city,
    country.country,
    if(customer.active, 'active', '') as notes,
    customer.store_id as sid
from customer
inner join address on customer.address_id = address.address_id
inner join city on address.city_id = city.city_id
inner join country on city.country_id = country.country_id;

create view staff_list as
select
    staff.staff_id as id,
    concat(staff.first_name, ' ', staff.last_name) as name,
    address.address,
    address.postal_code as `zip code`,
    address.phone,
    city.city,
    country.country,
    staff.store_id as sid
from staff
inner join address on staff.address_id = address.address_id
inner join city on address.city_id = city.city_id
inner join country on city.country_id = country.country_id;

create view film_list as
select
    film.film_id as fid,
    film.title,
    film.description,
    category.name as category,
    film.rental_rate as price,
    film.length,
    film.rating,
    group_concat(concat(actor.first_name, ' ', actor.last_name) separator ', ') as actors
from film
left join film_category on film.film_id = film_category.film_id
left join category on film_category.category_id = category.category_id
left join film_actor on film.film_id = film_actor.film_id
left join actor on film_actor.actor_id = actor.actor_id
group by
    film.film_id, film.title, film.description, category.name, film.rental_rate, film.length,
    film.rating;

create view nicer_but_slower_film_list as
select
    film_list.fid,
    film_list.title,
    film_list.category,
    film_list.price,
    lower(film_list.actors) as actors
from film_list;

create view sales_by_store as
select
    concat(city.city, ',', country.country) as store,
    concat(staff.first_name, ' ', staff.last_name) as manager,
    sum(payment.amount) as total_sales
from payment
inner join rental on payment.rental_id = rental.rental_id
inner join inventory on rental.inventory_id = inventory.inventory_id
inner join store on inventory.store_id = store.store_id
inner join address on store.address_id = address.address_id
inner join city on address.city_id = city.city_id
inner join country on city.country_id = country.country_id
inner join staff on store.manager_staff_id = staff.staff_id
group by store.store_id, city.city, country.country, staff.first_name, staff.last_name;

create view sales_by_film_category as
select
    category.name as category,
    sum(payment.amount) as total_sales
from payment
inner join rental on payment.rental_id = rental.rental_id
inner join inventory on rental.inventory_id = inventory.inventory_id
inner join film_category on inventory.film_id = film_category.film_id
inner join category on film_category.category_id = category.category_id
group by category.name;

create view actor_info as
select
    actor.actor_id,
    actor.first_name,
    actor.last_name,
    group_concat(distinct concat(category.name, ': ', film.title) separator '; ') as film_info
from actor
left join film_actor on actor.actor_id = film_actor.actor_id
left join film on film_actor.film_id = film.film_id
left join film_category on film.film_id = film_category.film_id
left join category on film_category.category_id = category.category_id
group by actor.actor_id, actor.first_name, actor.last_name;

insert into actor (actor_id, first_name, last_name) values
(1, 'Ada', 'Berg'), (2, 'Noël', 'O''Hara'), (3, '李', '明');
insert into country (country_id, country) values (1, 'Switzerland'), (2, 'Türkiye');
insert into city (city_id, city, country_id) values (1, 'Zürich', 1), (2, 'İzmir', 2);
insert into address (address_id, address, district, city_id, postal_code, phone, location) values
(1, '1 Mill Lane', 'West', 1, '8001', '+41 44 555 01', point(8.5, 47.4)),
(2, '2 Race Street', '', 2, null, '', point(27.1, 38.4)),
(3, '3 Mill Lane', 'West', 1, '8002', '+41 44 555 03', point(8.5, 47.3));
insert into category (category_id, name) values (1, 'Action'), (2, 'Family');
insert into language (language_id, name) values (1, 'English'), (2, 'Türkçe');
insert into store (store_id, manager_staff_id, address_id) values (1, 1, 1), (2, 2, 2);
insert into staff
(staff_id, first_name, last_name, address_id, picture, email, store_id, username, password) values
(1, 'Mike', 'Stone', 1, x'89504e47', 'mike@example.com', 1, 'mike', sha1('a')),
(2, 'Jo', 'Reed', 2, null, 'jo@example.com', 2, 'jo', null);
insert into customer
(customer_id, store_id, first_name, last_name, email, address_id, active, create_date) values
(1, 1, 'Mary', 'Hill', 'mary@example.com', 3, true, '2026-02-14 22:04:36'),
(2, 2, 'Ali', 'Kaya', null, 2, false, '2026-02-14 22:04:37');
insert into film
(film_id, title, description, release_year, language_id, original_language_id, length, rating,
special_features) values
(1, 'Mill Race', 'A story of water', 2006, 1, null, 86, 'PG', 'Deleted Scenes,Trailers'),
(2, 'The Sluice', null, null, 2, 1, null, 'NC-17', '');
insert into film_actor (actor_id, film_id) values (1, 1), (2, 1), (3, 2);
insert into film_category (film_id, category_id) values (1, 1), (2, 2);
insert into film_text (film_id, title, description) values
(1, 'Mill Race', 'A story of water'), (2, 'The Sluice', null);
insert into inventory (inventory_id, film_id, store_id) values (1, 1, 1), (2, 2, 2);
insert into rental (rental_id, rental_date, inventory_id, customer_id, return_date, staff_id) values
(1, '2026-05-24 22:53:30', 1, 1, '2026-05-26 22:04:30', 1),
(2, '2026-05-24 22:54:33', 2, 2, null, 2);
insert into payment (payment_id, customer_id, staff_id, rental_id, amount, payment_date) values
(1, 1, 1, 1, 2.99, '2026-05-25 11:30:37'), (2, 2, 2, 2, 0.99, '2026-05-25 11:31:00'),
(3, 2, 2, null, 5.99, '2026-05-28 10:35:23');
set foreign_key_checks = 1;
