import { defineConfig } from "vite";

export default defineConfig({
  build: {
    outDir: "../static",
    emptyOutDir: true,
    target: "es2022", // browsers of 2022 and later; government desktops run Chromium shells
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0, // no data: addresses, so that the policy can stay default-src 'self'
    reportCompressedSize: true,
  },
  server: { proxy: { "/api": "http://127.0.0.1:8080" } },
});
