/** Results as an SVG picture: a panel of bars for each row, a panel of lines for each curve. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BarChart, LineChart } from 'echarts/charts';
import { GridComponent, LegendComponent, TitleComponent } from 'echarts/components';
import { type EChartsCoreOption, init, use } from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';
import { formatNumber, formatValue } from './format.ts';
import type { Result, ResultRow } from './results.ts';

use([BarChart, LineChart, GridComponent, LegendComponent, TitleComponent, SVGRenderer]);

const WIDTH = 1000;
const COLUMN_GAP = 40;
const MARGIN = 24;
const HEADER_HEIGHT = 76;
const PANEL_TITLE_HEIGHT = 34;
const BAR_HEIGHT = 24;
const LINES_HEIGHT = 240;
const PANEL_GAP = 18;
const NAMES_WIDTH = 128;
/** Right of the longest bar: the figure, and with it what it took. */
const FIGURE_WIDTH = 90;
const NOTE_WIDTH = 330;

/** Without double quotes: echarts writes it into an attribute as it is. */
const FONT = 'Helvetica, Arial, DejaVu Sans, sans-serif';
const INK = '#1f2933';
const FAINT = '#66727f';
const RULE = '#e3e7eb';

/** The same in every picture. tsfs is blue in all its forms. */
const COLORS: Readonly<Record<string, string>> = {
  local: '#9aa5b1',
  tsfs: '#0b5fc1',
  'tsfs-ro': '#3d8ee6',
  'tsfs-ro_view': '#6fb0f2',
  'tsfs-no-hot-table': '#27496d',
  'tsfs-portable': '#a9cdf5',
  s3fs: '#d9580d',
  rclone: '#2f9e54',
  goofys: '#9440b5',
  geesefs: '#c2325f',
  'mount-s3': '#d9a406',
  juicefs: '#5f3dc4',
};
const OTHER_COLOR = '#52606d';

interface Box {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** What echarts wants for one panel; axes and series refer to it by its number. */
interface Panel {
  readonly title: object;
  readonly grid: object;
  readonly xAxis: object;
  readonly yAxis: object;
  readonly series: readonly object[];
}

/** Its path. */
export async function saveChart(result: Result, directory: string): Promise<string> {
  const path = join(directory, `${result.suite}.svg`);
  await mkdir(directory, { recursive: true });
  await writeFile(path, renderChart(result));
  return path;
}

export function renderChart(result: Result): string {
  const curves = groupCurves(result.results);
  const bars = result.results.filter(({ curve }) => curve === undefined);
  const hasNotes = bars.some(({ targets }) => Object.values(targets).some(({ note }) => note !== undefined));
  const columns = hasNotes || bars.length + curves.length === 1 ? 1 : 2;
  const heights = [...curves.map(() => LINES_HEIGHT), ...bars.map((row) => barsHeight(row))];
  const { boxes, height } = layOut(heights, columns);
  const boxAt = (index: number) => boxes[index] ?? { left: 0, top: 0, width: 0, height: 0 };
  const panels = [
    ...curves.map((curve, index) => linesPanel(curve, index, boxAt(index))),
    ...bars.map((row, index) => barsPanel(row, curves.length + index, boxAt(curves.length + index), hasNotes)),
  ];
  return toSvg(panels, result, height);
}

function barsHeight({ targets }: ResultRow): number {
  return PANEL_TITLE_HEIGHT + BAR_HEIGHT * Object.keys(targets).length;
}

/** Line after line; each as high as the highest panel in it. */
function layOut(heights: readonly number[], columns: number): { boxes: Box[]; height: number } {
  const width = (WIDTH - 2 * MARGIN - COLUMN_GAP * (columns - 1)) / columns;
  const boxes: Box[] = [];
  let top = HEADER_HEIGHT;
  for (let start = 0; start < heights.length; start += columns) {
    const line = heights.slice(start, start + columns);
    for (const [column, height] of line.entries()) {
      boxes.push({ left: MARGIN + column * (width + COLUMN_GAP), top, width, height });
    }
    top += Math.max(...line) + PANEL_GAP;
  }
  return { boxes, height: top };
}

function toSvg(panels: readonly Panel[], { suite, title, date, machine, rounds }: Result, height: number): string {
  const where = `${machine.cpus} × ${machine.cpu ?? 'CPU'}, Linux ${machine.kernel}, ${date.slice(0, 10)}`;
  const option: EChartsCoreOption = {
    animation: false,
    backgroundColor: '#ffffff',
    textStyle: { fontFamily: FONT, color: INK },
    title: [
      {
        text: `${suite}: ${title}`,
        subtext: `medians of ${rounds} interleaved rounds; ${where}`,
        left: MARGIN - 5,
        top: 12,
        textStyle: { fontSize: 15, fontWeight: 'bold', color: INK },
        subtextStyle: { fontSize: 11.5, color: FAINT },
      },
      ...panels.map((panel) => panel.title),
    ],
    grid: panels.map(({ grid }) => grid),
    xAxis: panels.map(({ xAxis }) => xAxis),
    yAxis: panels.map(({ yAxis }) => yAxis),
    series: panels.flatMap(({ series }) => series),
  };
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height });
  try {
    chart.setOption(option);
    return `${chart.renderToSVGString()}\n`;
  } finally {
    chart.dispose();
  }
}

function panelTitle(text: string, better: ResultRow['better'], { left, top }: Box): object {
  return {
    // In one piece: how wide the viewer's font makes the first of two is not known here.
    text: `${text} (${better} is better)`,
    left: left - 5,
    top: top + 2,
    textStyle: { fontSize: 13, fontWeight: 'bold', color: INK },
  };
}

function barsPanel(row: ResultRow, index: number, box: Box, hasNotes: boolean): Panel {
  const names = Object.keys(row.targets);
  const data = Object.entries(row.targets).map(([name, { median, note }]) => ({
    value: median,
    itemStyle: { color: colorOf(name) },
    label: { formatter: labelOf(formatValue(median, row.unit), note) },
  }));
  const figureWidth = hasNotes ? FIGURE_WIDTH + NOTE_WIDTH : FIGURE_WIDTH;
  return {
    title: panelTitle(row.name, row.better, box),
    grid: {
      left: box.left + NAMES_WIDTH,
      top: box.top + PANEL_TITLE_HEIGHT - 8,
      width: box.width - NAMES_WIDTH - figureWidth,
      height: BAR_HEIGHT * names.length,
    },
    xAxis: { gridIndex: index, type: 'value', show: false, min: 0, max: 'dataMax' },
    yAxis: {
      gridIndex: index,
      type: 'category',
      data: names,
      inverse: true,
      axisTick: { show: false },
      axisLine: { lineStyle: { color: RULE } },
      axisLabel: { fontSize: 12, color: INK, interval: 0 },
    },
    series: [
      {
        type: 'bar',
        xAxisIndex: index,
        yAxisIndex: index,
        barWidth: 15,
        data,
        label: {
          show: true,
          position: 'right',
          color: INK,
          fontSize: 12,
        },
      },
    ],
  };
}

function labelOf(figure: string, note: string | undefined): string {
  return note === undefined ? figure : `${figure} (${note})`;
}

interface Curve {
  readonly name: string;
  readonly rows: readonly ResultRow[];
}

function groupCurves(rows: readonly ResultRow[]): readonly Curve[] {
  const groups = Map.groupBy(
    rows.filter(({ curve }) => curve !== undefined),
    ({ curve }) => curve?.name ?? '',
  );
  return [...groups].map(([name, members]) => ({ name, rows: members }));
}

function linesPanel({ name, rows }: Curve, index: number, box: Box): Panel {
  const [first] = rows;
  const unit = first?.unit ?? '/s';
  const targets = [...new Set(rows.flatMap((row) => Object.keys(row.targets)))];
  return {
    title: panelTitle(name, first?.better ?? 'less', box),
    grid: {
      left: box.left + 62,
      top: box.top + PANEL_TITLE_HEIGHT,
      width: box.width - 62 - 92,
      height: box.height - PANEL_TITLE_HEIGHT - 34,
    },
    xAxis: {
      gridIndex: index,
      type: 'log',
      min: rows[0]?.curve?.at,
      max: rows.at(-1)?.curve?.at,
      axisLine: { lineStyle: { color: RULE } },
      splitLine: { show: false },
      axisLabel: {
        fontSize: 11,
        color: FAINT,
        formatter: (at: number) => `${formatNumber(at)} ${first?.curve?.label}`,
      },
    },
    yAxis: {
      gridIndex: index,
      type: 'log',
      splitLine: { lineStyle: { color: RULE } },
      axisLabel: { fontSize: 11, color: FAINT, formatter: (value: number) => formatValue(value, unit) },
    },
    series: targets.map((target) => ({
      type: 'line',
      name: target,
      xAxisIndex: index,
      yAxisIndex: index,
      symbolSize: 6,
      lineStyle: { width: 2 },
      color: colorOf(target),
      data: rows.filter((row) => target in row.targets).map((row) => [row.curve?.at, row.targets[target]?.median]),
      endLabel: { show: true, formatter: target, color: colorOf(target), fontSize: 12 },
      labelLayout: { moveOverlap: 'shiftY' },
    })),
  };
}

function colorOf(target: string): string {
  return COLORS[target] ?? OTHER_COLOR;
}
