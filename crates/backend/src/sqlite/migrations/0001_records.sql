-- Text compares by bytes (the default collation), which is the order that the port promises.
CREATE TABLE records (
  collection TEXT    NOT NULL,
  id         TEXT    NOT NULL,
  version    INTEGER NOT NULL,
  sort       TEXT    NOT NULL,
  facets     TEXT    NOT NULL, -- JSON array of [name, value], so that reading a record is one look-up
  expires_at INTEGER,
  body       TEXT    NOT NULL,
  PRIMARY KEY (collection, id)
);
CREATE UNIQUE INDEX records_in_order ON records (collection, sort, id);
CREATE INDEX records_expiring ON records (expires_at) WHERE expires_at IS NOT NULL;

-- One row for each facet of a record, in list order.
CREATE TABLE facets (
  collection TEXT NOT NULL,
  name       TEXT NOT NULL,
  value      TEXT NOT NULL,
  sort       TEXT NOT NULL,
  id         TEXT NOT NULL,
  PRIMARY KEY (collection, name, value, sort, id)
) WITHOUT ROWID;
