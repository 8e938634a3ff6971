// The linter of the page's JavaScript: ESLint without plugins. `.ci/lint-js` installs and runs it.
//
// The files of nanogpt_np/page/js are not modules. nanogpt_np/page/document.py joins them in the order of its SCRIPTS
// into one function in strict mode, so a name may be defined in one file and used in another. ESLint reads one file at
// a time, so the processor below replaces the file by the whole program, and keeps what is found in the file's lines.

import { readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const PAGE = join(dirname(fileURLToPath(import.meta.url)), "nanogpt_np", "page");
const HEAD = '"use strict";\n(() => {\n';
const TAIL = "})();\n";

/** The names in SCRIPTS, in the order in which the page runs them. */
function scripts() {
  const [, listed] = /^SCRIPTS\b.* = \($([\s\S]*?)^\)$/m.exec(readFileSync(join(PAGE, "document.py"), "utf8"));
  return [...listed.matchAll(/"(\w+)"/g)].map(([, name]) => name);
}

const linted = { whole: null, messages: [] }; // the last program; it is the same for all files, and linted once
let parts = []; // [{name, from, to, offset}]: the lines of each file in the program, and where its text begins

const linesOf = (text) => text.split("\n").length;

/** "data.js:66" for a line of the program. */
function placeOf(line) {
  const { name, from } = parts.findLast((part) => part.from < line);
  return `${name}.js:${line - from}`;
}

const program = {
  meta: { name: "nanogpt_np/page" },
  supportsAutofix: true,

  /** The program with `text` as the contents of the file at `path`: an editor may not have saved it yet. */
  preprocess(text, path) {
    const own = basename(path, ".js");
    parts = [];
    let whole = HEAD;
    for (const name of scripts()) {
      const part = name === own ? text : readFileSync(join(PAGE, "js", `${name}.js`), "utf8");
      const from = linesOf(whole) - 1;
      parts.push({ name, from, to: from + linesOf(part), offset: whole.length });
      whole += `${part}\n`;
    }
    if (!parts.some(({ name }) => name === own)) throw new Error(`document.py does not have ${own} in SCRIPTS`);
    parts.at(-1).to = Infinity; // a brace that nothing closes is found after the last file, and reported there
    whole += TAIL;
    if (whole === linted.whole) return []; // postprocess has its messages
    linted.whole = whole;
    return [whole];
  },

  postprocess([messages], path) {
    const { from, to, offset } = parts.find(({ name }) => name === basename(path, ".js"));
    linted.messages = messages ?? linted.messages;
    const moved = (fix) => fix && { ...fix, range: fix.range.map((index) => index - offset) };
    return linted.messages
      .filter(({ line }) => !line || (line > from && line <= to)) // without a line: not about any file's text
      .map((found) => ({
        ...found,
        message: found.message.replace(/on line (\d+) column \d+/, (_, line) => `in ${placeOf(Number(line))}`),
        line: found.line && found.line - from,
        endLine: found.endLine && found.endLine - from,
        fix: moved(found.fix),
        suggestions: found.suggestions?.map((one) => ({ ...one, fix: moved(one.fix) })),
      }));
  },
};

// What the page takes from the browser. With every name that a browser defines, among them `name`, `status`, `length`,
// `top` and `event`, some misspellings would pass.
const BROWSER = [
  ...["ImageData", "ResizeObserver", "URLSearchParams", "atob", "clearInterval", "document", "getComputedStyle"],
  ...["history", "location", "matchMedia", "requestAnimationFrame", "setInterval", "window"],
];

// Names that read text as HTML. The page's Content-Security-Policy refuses them too, but only when they run.
const HTML =
  "/^((inner|outer|insertAdjacent)HTML|(set|parse)HTML(Unsafe)?|parseFromString|createContextualFragment|srcdoc)$/";
const NO_HTML = "The page never reads text as HTML: make elements with el().";

/** Rules that need no options, as errors. */
const on = (...names) => Object.fromEntries(names.map((name) => [name, "error"]));

export default [
  {
    files: ["nanogpt_np/page/js/*.js"],
    plugins: { page: { processors: { program } } },
    processor: "page/program",
    // Nothing is switched off in a comment: a rule that does not serve is changed here, with the reason beside it.
    linterOptions: { noInlineConfig: true },
    languageOptions: {
      ecmaVersion: 2022,
      sourceType: "script",
      globals: Object.fromEntries(BROWSER.map((name) => [name, "readonly"])),
    },
    rules: {
      // ---- names ----
      ...on("no-undef", "no-implicit-globals", "no-redeclare", "no-const-assign", "no-global-assign", "no-func-assign"),
      ...on("no-shadow-restricted-names", "no-unused-labels", "no-underscore-dangle", "new-cap", "no-undef-init"),
      ...on("no-useless-assignment", "no-unassigned-vars", "no-var", "prefer-const", "block-scoped-var"),
      // "_" stands for an argument that is not needed, at any depth; everything else that is unused is reported.
      "no-unused-vars": ["error", { args: "all", argsIgnorePattern: "^_$", caughtErrors: "all" }],
      "no-shadow": ["error", { builtinGlobals: true, hoist: "all", allow: ["_"] }],
      // Functions are hoisted, and their bodies run after every const is made: only what runs at once can be too early.
      "no-use-before-define": ["error", { functions: false, variables: false }],
      // Keys are data: Python's names (PAGE.stand_ins) and those of tensors (hook_next_token).
      camelcase: ["error", { properties: "never" }],

      // ---- text is never HTML or code ----
      ...on("no-eval", "no-implied-eval", "no-new-func", "no-script-url"),
      "no-restricted-syntax": [
        "error",
        { selector: `Identifier[name=${HTML}]`, message: NO_HTML },
        { selector: `Literal[value=${HTML}]`, message: NO_HTML },
        { selector: `TemplateElement[value.cooked=${HTML}]`, message: NO_HTML },
        { selector: "MemberExpression[object.name='document'][property.name=/^write(ln)?$/]", message: NO_HTML },
      ],

      // ---- mistakes ----
      ...on("no-unreachable", "no-unreachable-loop", "no-fallthrough", "no-unsafe-finally", "no-constant-condition"),
      ...on("no-dupe-keys", "no-dupe-args", "no-dupe-else-if", "no-duplicate-case", "no-dupe-class-members"),
      ...on("no-constant-binary-expression", "no-compare-neg-zero", "no-self-compare", "no-self-assign", "use-isnan"),
      ...on("no-cond-assign", "no-unsafe-negation", "no-unsafe-optional-chaining", "valid-typeof", "no-sparse-arrays"),
      ...on("consistent-return", "getter-return", "no-setter-return", "no-constructor-return", "for-direction"),
      ...on("no-loop-func", "no-unmodified-loop-condition", "no-inner-declarations", "no-unexpected-multiline"),
      ...on("no-loss-of-precision", "no-template-curly-in-string", "no-prototype-builtins", "no-obj-calls"),
      ...on("no-async-promise-executor", "require-atomic-updates", "no-ex-assign", "no-extend-native", "no-proto"),
      ...on("no-control-regex", "no-empty-character-class", "no-invalid-regexp", "no-misleading-character-class"),
      ...on("no-regex-spaces", "no-useless-backreference", "no-irregular-whitespace", "no-delete-var", "no-octal"),
      ...on("no-unused-expressions", "no-sequences", "no-return-assign", "no-multi-assign", "no-param-reassign"),
      ...on("no-throw-literal", "no-new", "no-new-wrappers", "no-array-constructor", "no-object-constructor"),
      ...on("no-caller", "no-with", "no-labels", "no-void", "guard-for-in", "radix", "default-param-last"),
      ...on("no-console", "no-debugger", "no-alert"),
      "array-callback-return": ["error", { checkForEach: true }],
      eqeqeq: ["error", "always"],

      // ---- more than is needed ----
      ...on("no-useless-escape", "no-useless-return", "no-useless-rename", "no-useless-concat", "no-useless-catch"),
      ...on("no-useless-call", "no-useless-computed-key", "no-useless-constructor", "no-extra-boolean-cast"),
      ...on("no-else-return", "no-lonely-if", "no-lone-blocks", "no-unneeded-ternary", "no-empty", "no-extra-bind"),
      ...on("prefer-template", "prefer-arrow-callback", "prefer-spread", "prefer-rest-params", "prefer-object-spread"),
      ...on(
        "prefer-object-has-own",
        "prefer-exponentiation-operator",
        "prefer-numeric-literals",
        "no-implicit-coercion",
      ),
      ...on("prefer-regex-literals", "object-shorthand", "dot-notation", "arrow-body-style", "yoda"),
      ...on("operator-assignment", "logical-assignment-operators"),

      // ---- complexity ----
      complexity: ["error", 20],
      "max-depth": ["error", 4],
      "max-nested-callbacks": ["error", 4],
      "max-params": ["error", 7],
    },
  },
];
