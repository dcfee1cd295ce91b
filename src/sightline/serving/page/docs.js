// Shows /openapi.json: each path with what it takes and gives.

const make = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};

function resolved(schema, parts, depth = 0) {
  if (schema === null || typeof schema !== "object" || depth > 12) return schema;
  if (schema.$ref) return resolved(parts[schema.$ref.split("/").pop()], parts, depth + 1);
  if (Array.isArray(schema)) return schema.map((part) => resolved(part, parts, depth + 1));
  return Object.fromEntries(Object.entries(schema).map(([key, part]) => [key, resolved(part, parts, depth + 1)]));
}

function table(head, rows) {
  const built = make("table");
  for (const [cells, tag] of [[head, "th"], ...rows.map((row) => [row, "td"])]) {
    const line = make("tr");
    line.append(...cells.map((cell) => make(tag, "", cell)));
    built.append(line);
  }
  return built;
}

function schemaOf(title, content, parts) {
  const kinds = Object.entries(content ?? {});
  const plain = kinds.filter(([, { schema }]) => !schema).map(([kind]) => kind);
  const shown = kinds.filter(([, { schema }]) => schema).map(([kind, { schema }]) => {
    const details = make("details");
    details.append(make("summary", "", `${title}: ${kind}`), make("pre", "", JSON.stringify(resolved(schema, parts), null, 2)));
    return details;
  });
  return plain.length ? [make("p", "", `${title}: ${plain.join(", ")}.`), ...shown] : shown;
}

function operation(method, path, told, parts) {
  const article = make("article", "operation card");
  const title = make("h2");
  title.append(make("span", "method", method.toUpperCase()), make("code", "", path));
  article.append(title, make("p", "", `${told.summary}. ${told.description ?? ""}`.replaceAll("`", "")));
  if (told.parameters) article.append(table(["parameter", "in", "meaning"], told.parameters.map((part) => [part.name, part.in, part.description ?? ""])));
  article.append(...schemaOf("Takes", told.requestBody?.content, parts), ...schemaOf("Gives", told.responses["200"].content, parts));
  const errors = make("details");
  errors.append(make("summary", "", "Errors"), table(["status", "code and meaning"], Object.entries(told.responses).filter(([status]) => status !== "200").map(([status, { description }]) => [status, description.replaceAll("`", "")])));
  article.append(errors);
  return article;
}

const described = await (await fetch("/openapi.json")).json();
for (const [path, methods] of Object.entries(described.paths)) {
  for (const [method, told] of Object.entries(methods)) {
    document.getElementById("operations").append(operation(method, path, told, described.components.schemas));
  }
}
