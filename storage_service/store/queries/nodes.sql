-- name: node
SELECT n FROM nodes WHERE node_id = :node_id;

-- name: is_visible
SELECT visible FROM nodes WHERE node_id = :node_id;

-- name: node_record
SELECT node_id, record FROM nodes WHERE n = :n;

-- name: node_params
SELECT name, class, value FROM params WHERE node_id = :node_id;

-- The children of a node in the RunDB, oldest first.
-- name: children
SELECT at, n FROM nodes INDEXED BY nodes_by_parent
WHERE parent_id = :parent_id AND n > :n AND visible = 1
ORDER BY n LIMIT :rows;

-- Acquisitions before a place in time, newest first, by whichever filter narrows most.
-- name: acqs_of_run
SELECT at, n FROM nodes INDEXED BY nodes_by_parent
WHERE parent_id = :run_id AND kind = 'acq' AND at <= :at AND (at < :at OR n < :n)
    AND (:storage_id IS NULL OR storage_id = :storage_id) AND (:state IS NULL OR state = :state)
ORDER BY at DESC, n DESC LIMIT :rows;

-- name: acqs_open
SELECT at, n FROM nodes INDEXED BY nodes_at_work
WHERE kind = 'acq' AND sealed = 0 AND state = 'open' AND at <= :at AND (at < :at OR n < :n)
    AND (:storage_id IS NULL OR storage_id = :storage_id)
ORDER BY at DESC, n DESC LIMIT :rows;

-- name: acqs_of_storage
SELECT at, n FROM nodes INDEXED BY nodes_by_storage
WHERE storage_id = :storage_id AND kind = 'acq' AND at <= :at AND (at < :at OR n < :n)
    AND (:state IS NULL OR state = :state)
ORDER BY at DESC, n DESC LIMIT :rows;

-- name: acqs
SELECT at, n FROM nodes INDEXED BY nodes_by_time
WHERE kind = 'acq' AND at <= :at AND (at < :at OR n < :n)
    AND (:state IS NULL OR state = :state)
ORDER BY at DESC, n DESC LIMIT :rows;

-- Places of annotations before one of them, newest first.
-- name: annotations
SELECT '', seq FROM annotations INDEXED BY annotations_by_node
WHERE node_id = :node_id AND seq < :n ORDER BY seq DESC LIMIT :rows;

-- name: annotation
SELECT name, class, value, author, time FROM annotations WHERE seq = :seq;
