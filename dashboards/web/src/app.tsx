/** The frame of every page: header, navigation, link state, clock, language; and the choice of the page. */

import { useSignalEffect } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { second } from "./clock";
import { integer, stamp } from "./format";
import { lang, type Lang, setLang, t } from "./i18n";
import { lastHeard, linkState } from "./live";
import { AlertPage } from "./pages/alert";
import { AlertsPage } from "./pages/alerts";
import { EndpointsPage } from "./pages/endpoints";
import { LimitsPage } from "./pages/limits";
import { OverviewPage } from "./pages/overview";
import { StationPage } from "./pages/station";
import { StationsPage } from "./pages/stations";
import { TestsPage } from "./pages/tests";
import { Empty } from "./parts/parts";
import { href, route } from "./route";
import { openAlerts } from "./state";
import type { Word } from "./words";

const PAGES: readonly (readonly [path: string, word: Word])[] = [
  ["", "overview"],
  ["stations", "stations"],
  ["tests", "tests"],
  ["alerts", "alerts"],
  ["limits", "limits_page"],
  ["endpoints", "endpoints"],
];

function Page() {
  const [first, second] = route.value.path;
  switch (first) {
    case undefined:
      return <OverviewPage />;
    case "stations":
      return second === undefined ? <StationsPage /> : <StationPage key={second} code={second} />;
    case "tests":
      return <TestsPage />;
    case "alerts":
      return second === undefined ? <AlertsPage /> : <AlertPage key={second} id={second} />;
    case "endpoints":
      return <EndpointsPage />;
    case "limits":
      return <LimitsPage />;
    default:
      return (
        <div class="page">
          <Empty title="not_found">
            <a href={href([])}>{t("to_overview")}</a>
          </Empty>
        </div>
      );
  }
}

function Navigation() {
  const here = route.value.path[0] ?? "";
  const open = openAlerts.value.data?.length ?? 0;
  return (
    <nav class="nav" aria-label={t("nav_label")}>
      {PAGES.map(([path, word]) => (
        <a key={path} href={href(path ? [path] : [])} aria-current={path === here ? "page" : undefined} data-testid={`nav-${word}`}>
          {t(word)}
          {path === "alerts" && open > 0 && <span class="nav-count">{integer(open)}</span>}
        </a>
      ))}
    </nav>
  );
}

function LinkMark() {
  const state = linkState.value;
  const word: Word = state === "open" ? "live_open" : state === "connecting" ? "live_connecting" : "live_lost";
  return (
    <span class={`link-mark link-${state}`} role="status" data-testid="link-state" data-state={state} title={t(state === "lost" ? "live_lost_hint" : "live_open_hint")}>
      <i aria-hidden="true" />
      {t(word)}
    </span>
  );
}

function Clock() {
  return (
    <span class="clock" title={t("beijing_time")}>
      <span class="clock-zone">{t("beijing_time")}</span>
      <time class="num">{stamp(second.value)}</time>
    </span>
  );
}

const LANGS: readonly (readonly [Lang, string])[] = [
  ["zh", "中文"],
  ["en", "EN"],
];

function LanguageSwitch() {
  return (
    <div class="lang" role="group" aria-label={t("language")} data-testid="lang-switch">
      {LANGS.map(([code, text]) => (
        <button
          key={code}
          type="button"
          lang={code === "zh" ? "zh-CN" : "en"}
          aria-pressed={lang.value === code}
          data-testid={`lang-${code}`}
          onClick={() => setLang(code)}
        >
          {text}
        </button>
      ))}
    </div>
  );
}

export function App() {
  useSignalEffect(() => {
    document.documentElement.lang = lang.value === "zh" ? "zh-CN" : "en";
    const page = PAGES.find(([path]) => path === (route.value.path[0] ?? ""));
    document.title = `${page ? `${t(page[1])} · ` : ""}${t("product")} · ${t("brand")}`;
  });
  const path = route.value.path.join("/");
  useEffect(() => scrollTo(0, 0), [path]);
  return (
    <>
      <a
        class="skip"
        href="#main"
        onClick={(e) => {
          e.preventDefault(); // the address after # is the page
          document.getElementById("main")?.focus();
        }}
      >
        {t("skip")}
      </a>
      <header class="top">
        <a class="brand" href={href([])}>
          <svg viewBox="0 0 32 20" aria-hidden="true">
            <path d="M1 13h6l3-8 5 13 4-16 3 11h9" />
            <circle cx="22.5" cy="3.5" r="2.5" />
          </svg>
          <span>{t("product")}</span>
        </a>
        <Navigation />
        <div class="top-right">
          <LinkMark />
          <Clock />
          <LanguageSwitch />
        </div>
      </header>
      {linkState.value === "lost" && (
        <p class="lost-bar" role="alert" data-testid="lost-bar">
          {t("lost_bar", { time: stamp(lastHeard.value) })}
        </p>
      )}
      <main id="main" tabIndex={-1}>
        <Page />
      </main>
    </>
  );
}
