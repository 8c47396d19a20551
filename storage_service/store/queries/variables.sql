-- name: variable
SELECT class, value FROM variables WHERE ns = :ns AND name = :name;

-- Those of a namespace from a name on, in the order of their UTF-8: all with the same beginning stand together.
-- name: variables
SELECT name, class, value FROM variables WHERE ns = :ns AND name >= :prefix ORDER BY name;
