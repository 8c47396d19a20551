-- name: storage
SELECT record FROM storages WHERE storage_id = :storage_id;

-- name: storages
SELECT record FROM storages ORDER BY n;

-- name: storages_count
SELECT count(*) FROM storages;
