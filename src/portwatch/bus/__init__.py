"""The bus: state and news on a broker. Its nouns are in `connection`, its brokers in `memory` and `mqtt`."""
