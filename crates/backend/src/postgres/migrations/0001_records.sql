-- Text compares by bytes, which is the order that the port promises, whatever the database's own language.
CREATE TABLE portico_records (
  collection text   COLLATE "C" NOT NULL,
  id         text   COLLATE "C" NOT NULL,
  version    bigint NOT NULL,
  sort       text   COLLATE "C" NOT NULL,
  facets     text   NOT NULL, -- JSON array of [name, value], so that reading a record is one look-up
  expires_at bigint,
  body       text   NOT NULL, -- text and not jsonb, which would change it
  PRIMARY KEY (collection, id)
);
CREATE INDEX portico_records_in_order ON portico_records (collection, sort, id);
CREATE INDEX portico_records_expiring ON portico_records (expires_at) WHERE expires_at IS NOT NULL;

-- One row for each facet of a record. The index gives the order of lists.
CREATE TABLE portico_facets (
  collection text COLLATE "C" NOT NULL,
  id         text COLLATE "C" NOT NULL,
  name       text COLLATE "C" NOT NULL,
  value      text COLLATE "C" NOT NULL,
  sort       text COLLATE "C" NOT NULL,
  PRIMARY KEY (collection, id, name)
);
CREATE INDEX portico_facets_in_order ON portico_facets (collection, name, value, sort, id);
